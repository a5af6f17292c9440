"""A network path that takes its time, and that can be cut: for what is lost with a machine, or behind a partition."""

import collections
import selectors
import socket
import threading
import time

from .ports import free_port


class SlowLink:
    """Passes TCP connections on to a port of this host; every byte arrives `delay` seconds after it was sent.

    `cut` loses what is under way and whatever comes after, without a word to either side, as a cable that is pulled does.
    """

    def __init__(self, target, delay):
        self.target, self.delay = target, delay
        self.port = free_port()
        self._is_cut = self._is_over = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers, self._queues = {}, {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self):
        self._is_cut = True

    def end(self):
        self._is_over = True
        self._thread.join(5)
        for one in [self._listener, *self._peers]:
            one.close()

    def _accept(self):
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self.target), 1)
        except OSError:
            return near.close()
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[one], self._queues[one] = other, collections.deque()
            self._selector.register(one, selectors.EVENT_READ)

    def _receive(self, one):
        try:
            data = one.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(one)
        if not self._is_cut:
            self._queues[one].append((time.monotonic() + self.delay, data))

    def _forward(self):
        now = time.monotonic()
        for one, queue in self._queues.items():
            while queue and queue[0][0] <= now and not self._is_cut:
                _, data = queue.popleft()
                try:
                    self._peers[one].sendall(data) if data else self._peers[one].shutdown(socket.SHUT_WR)
                except OSError:
                    pass

    def _run(self):
        while not self._is_over:
            for key, _ in self._selector.select(0.001):
                if key.fileobj is not self._listener:
                    self._receive(key.fileobj)
                elif not self._is_cut:
                    self._accept()
            self._forward()
