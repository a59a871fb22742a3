"""The few options of curl that the documentation uses, for machines without curl."""

import argparse
import sys
import urllib.error
import urllib.parse
import urllib.request


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-G", "--get", action="store_true")
    parser.add_argument("-X", "--request")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data", "--data-binary", action="append", default=[])
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
            sys.stdout.write(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.stdout.write(error.read().decode())


if __name__ == "__main__":
    main()
