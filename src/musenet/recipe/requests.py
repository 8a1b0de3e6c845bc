"""What is taken for one request."""

from pydantic import Field

from musenet.options import Options, Seconds


class RequestOptions(Options):
    """What was shown together."""

    longest: Seconds = Field(
        3600.0, description="impressions of one request id further apart than this are an error: such ids are reused"
    )
