"""What gunicorn serves: `service.wsgi:app`."""

from service import logging
from service.app import create_app
from service.config import Settings

settings = Settings.load()
logging.configure(settings.log_level)
app = create_app(settings)
