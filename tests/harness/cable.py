"""A cable between two links of this network namespace that carries frames late,
twice, or not at all, where the kernel has no netem.

    cable.py LINK LINK DELAY_MS JITTER_MS LOST_PERCENT DOUBLED_PERCENT SEED WAY

The first link is the host's. WAY is what becomes so: what the host has "sent", what it
"heard", or "both"; the rest passes as it comes.

Frames of a direction may overtake each other by the jitter. It says "up" once it
carries, and ends with its namespace.
"""

import heapq
import random
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 3


def plug(name):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    # Checksums and segments that are left to the card stay so.
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    end.bind((name, ETH_P_ALL))
    end.setblocking(False)
    return end


def main():
    ends = [plug(sys.argv[1]), plug(sys.argv[2])]
    delay, jitter, lost, doubled = (float(text) for text in sys.argv[3:7])
    chance = random.Random(int(sys.argv[7]))
    spoilt = {"sent": ends[:1], "heard": ends[1:]}.get(sys.argv[8], ends)
    under_way = []
    count = 0
    print("up", flush=True)
    while True:
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, to, frame = heapq.heappop(under_way)
            try:
                to.send(frame)
            except OSError:
                pass  # A full queue, or a link that is down: as on any cable.
        pause = under_way[0][0] - now if under_way else None
        for end in select.select(ends, [], [], pause)[0]:
            try:
                frame = end.recv(1 << 17)
            except OSError:
                continue
            to = ends[1] if end is ends[0] else ends[0]
            if end not in spoilt:
                count += 1
                heapq.heappush(under_way, (time.monotonic(), count, to, frame))
                continue
            if chance.random() * 100 < lost:
                continue
            for _ in range(2 if chance.random() * 100 < doubled else 1):
                count += 1
                due = time.monotonic() + (delay + chance.random() * jitter) / 1000
                heapq.heappush(under_way, (due, count, to, frame))


main()
