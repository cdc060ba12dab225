"""Stand-ins for the services: local pages that behave as the real ones' login pages do.

    with WhatsApp() as service:
        ...  # open service.url in a browser, or
        ...  # tweakio profile set default --config url=<service.url>
        service.scan(text_of_the_qr_code, account="alice")
        assert service.wait_for(lambda: service.accounts["alice"].logged_in)

They listen on 127.0.0.1 only, run in the process of the test, and use nothing but the standard
library and, to draw QR codes, segno. What a person does on the phone, and what the service does
by itself, are methods; what came of it stands in ``accounts``.
"""

from __future__ import annotations

from .custom import Custom
from .discord import Discord
from .service import Account, Device, NotCurrentError, Service
from .telegram import Telegram
from .whatsapp import WhatsApp

__all__ = [
    "Account",
    "Custom",
    "Device",
    "Discord",
    "NotCurrentError",
    "Service",
    "Telegram",
    "WhatsApp",
]
