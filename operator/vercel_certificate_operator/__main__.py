"""``python -m vercel_certificate_operator``."""

from vercel_certificate_operator.cli import main

if __name__ == "__main__":
    main()
