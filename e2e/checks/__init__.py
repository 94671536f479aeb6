"""The checks. Importing this package registers every one of them, in the order of the table."""

from checks import sessions  # noqa: F401  isort: skip
from checks import tools  # noqa: F401  isort: skip
from checks import requests_back  # noqa: F401  isort: skip
from checks import resources  # noqa: F401  isort: skip
from checks import closing  # noqa: F401  isort: skip
from checks import raw  # noqa: F401  isort: skip
