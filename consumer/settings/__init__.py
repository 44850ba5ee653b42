"""All settings of the contract: read from the environment, a TOML file and arguments, checked, and shown masked."""

from consumer.settings.model import KafkaSettings, SchemaSettings, Settings
from consumer.settings.syntax import Partitioning, Start

__all__ = ["KafkaSettings", "Partitioning", "SchemaSettings", "Settings", "Start"]
