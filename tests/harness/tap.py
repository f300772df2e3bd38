"""Writes every frame of a link to a file, one behind the other, until standard
input ends.

    tap.py LINK FILE

It says "up" once it listens.
"""

import select
import socket
import sys

ETH_P_ALL = 3

end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
end.bind((sys.argv[1], ETH_P_ALL))
end.setblocking(False)
print("up", flush=True)
with open(sys.argv[2], "wb") as file:
    over = False
    while not over:
        over = sys.stdin.fileno() in select.select([end, sys.stdin.fileno()], [], [])[0]
        try:
            while True:
                file.write(end.recv(1 << 17))
        except BlockingIOError:
            pass
