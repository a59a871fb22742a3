"""The few options of curl that the documentation uses, for machines without curl."""

import argparse
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-G", "--get", action="store_true")
    parser.add_argument("-X", "--request")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data", "--data-binary", action="append", default=[])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("-f", "--fail", action="store_true")
    asked = parser.parse_args()
    data = "&".join(asked.data)
    url = f"{asked.url}?{data}" if asked.get else asked.url
    request = urllib.request.Request(
        url,
        None if asked.get or not asked.data else data.encode(),
        dict(header.split(": ", 1) for header in asked.header),
        method=asked.request,
    )
    try:
        with urllib.request.urlopen(request) as answer:
            if asked.output is not None:
                asked.output.write_bytes(answer.read())
            else:
                sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as error:
        if asked.fail:
            sys.exit(22)
        sys.stdout.write(error.read().decode())


if __name__ == "__main__":
    main()
