"""Failed sign-ins, by account and address."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.models.types import Moment, now


class SignInThrottle(Model):
    """A row of `sign_in_throttles`: a pair of account and address, or an address.

    Never an account alone: who knows a name could lock its owner out.
    """

    __tablename__ = "sign_in_throttles"

    key_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    last_failure_at: Mapped[datetime] = mapped_column(Moment, default=now, index=True)
