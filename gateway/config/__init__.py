"""The config file: strict YAML to frozen values, and from there to what each part takes. Read by ``app`` alone."""

from gateway.config.build import policy_specs, route_table, target_specs
from gateway.config.load import load_config, parse_config
from gateway.config.model import Config
from gateway.config.problems import ConfigError

__all__ = ["Config", "ConfigError", "load_config", "parse_config", "policy_specs", "route_table", "target_specs"]
