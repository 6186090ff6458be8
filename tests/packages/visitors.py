"""Visitors of the machine of a test: each asks with a connection of its own, without a pause, until the file STOP is there.

Prints how many answers were right, and how many were not.
"""

import http.client
import os
import sys

STOP = "/run/visitors-stop"


def main():
    right = wrong = 0
    while not os.path.exists(STOP):
        connection = http.client.HTTPConnection("127.0.0.1", 6081, timeout=20)
        try:
            connection.request("GET", "/media/page.txt", headers={"Host": "shop.example"})
            fine = connection.getresponse().read() == b"here\n"
        except OSError:
            fine = False
        right, wrong = right + fine, wrong + (not fine)
        connection.close()
    print(right, wrong)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
