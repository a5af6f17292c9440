"""The store and Debian's redis-server are sent the same random commands; what they answer is compared.

    /usr/bin/python3 Tests/Integration/differential --seed 1 --count 1000000 --families strings,lists

An episode is a sequence of blocks made from one seed, sent to two servers that were emptied before. Compared are every reply,
the messages of keyspace notifications in their order, and at the end the whole data set. When something differs the
episode is played again with ever fewer blocks for as long as it still differs, and what is left is printed.

    wire.py         RESP in typed values; one server's connections
    comparing.py    when two replies count as the same
    generator.py    keys, values, numbers, and how right commands are made wrong
    families/       one file per family: its commands with weights
    playing.py      an episode on both servers; the smallest part of it that differs
    known.py        differences that are Redis 7.2's own
"""
