"""A wire between two network namespaces that loses and delays packets.

Used where the kernel has no netem: two TUN devices, and this program between them, so that the kernel's own TCP
notices, waits and sends again. Lines on its input say what it does: `LOSS_TO LOSS_FROM DELAY_TO DELAY_FROM` (percent
and milliseconds; "to" and "from" the namespace). It ends with its input.

usage: wire.py NEAR FAR NAMESPACE
"""
import collections
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000


def device(name):
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    return end


def main():
    near_name, far_name, namespace = sys.argv[1:]
    near, far = device(near_name), device(far_name)
    subprocess.run(["ip", "link", "set", far_name, "netns", namespace], check=True)
    print("ready", flush=True)
    # From each end: where its packets go, what share of them is lost, how long they take, and those that are under way.
    orders = ""
    ways = {near: [far, 0.0, 0.0, collections.deque()], far: [near, 0.0, 0.0, collections.deque()]}
    while True:
        now = time.monotonic()
        due = [way[3][0][0] for way in ways.values() if way[3]]
        ready, _, _ = select.select([0, near, far], [], [], max(0.0, min(due) - now) if due else None)
        now = time.monotonic()
        if 0 in ready:
            told = os.read(0, 4096).decode()
            if not told:
                return
            *lines, orders = (orders + told).split("\n")
            for line in lines:
                loss_to, loss_from, delay_to, delay_from = map(float, line.split())
                ways[near][1:3] = [loss_to / 100, delay_to / 1000]
                ways[far][1:3] = [loss_from / 100, delay_from / 1000]
        for end, way in ways.items():
            if end in ready:
                take(end, way, now)
            while way[3] and way[3][0][0] <= now:
                send(way[0], way[3].popleft()[1])


def take(end, way, now):
    for _ in range(64):
        try:
            packet = os.read(end, 65536)
        except (BlockingIOError, OSError):
            return
        if random.random() >= way[1]:
            way[3].append((now + way[2], packet))


def send(end, packet):
    try:
        os.write(end, packet)
    except OSError:
        pass  # A device that is full or not up loses packets, as a wire does.


main()
