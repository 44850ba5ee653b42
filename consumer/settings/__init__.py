"""All settings of the contract: read from the environment, a TOML file and arguments, checked, and shown masked."""

from consumer.settings.check import RUN_REQUIRES
from consumer.settings.load import load_settings, load_settings_and_sources
from consumer.settings.model import KafkaSettings, SchemaSettings, Settings, as_text, setting_name
from consumer.settings.start import Start

__all__ = [
    "RUN_REQUIRES",
    "KafkaSettings",
    "SchemaSettings",
    "Settings",
    "Start",
    "as_text",
    "load_settings",
    "load_settings_and_sources",
    "setting_name",
]
