"""`relay` and `python -m relay`."""

from __future__ import annotations

from relay.cli.main import app


def main() -> None:
    app(prog_name="relay")


if __name__ == "__main__":
    main()
