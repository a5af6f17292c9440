"""Takes mail on port 25 of the lab's client host and appends it to a file: mail_sink.py ADDRESS FILE."""

import socketserver
import sys
import threading

address, file = sys.argv[1:]
lock = threading.Lock()


class Session(socketserver.StreamRequestHandler):
    timeout = 30

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.say("220 lab ESMTP")
        while line := self.rfile.readline(4096):
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"DATA":
                self.say("354 go on")
                message = b""
                while (line := self.rfile.readline(65536)) not in (b".\r\n", b".\n", b""):
                    message += line
                with lock, open(file, "ab") as mails:
                    mails.write(message + b"\n----\n")
                self.say("250 taken")
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server((address, 25), Session).serve_forever()
