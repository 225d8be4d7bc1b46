"""Train, sample and evaluate deep generative models from YAML.

Importing this package loads nothing heavy: the families, networks, data and metrics live in their own modules.
"""

__version__ = "0.1.0"
