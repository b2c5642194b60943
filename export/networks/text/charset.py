"""The classes of the text models: the CTC blank, then 121 characters, in the order of legere's checkpoint.

Class 0 is the blank, class i + 1 is `CHARSET[i]`. What is served carries the same string as the parameter
`charset` of its `config.pbtxt`, which clients read.
"""

import string

__all__ = ["BLANK", "CHARSET", "CLASSES"]

BLANK = 0

_ACCENTED = "áàâãçéêíóôõúü"
_SIGNS = " .,;:!?'\"()[]{}%$#@&*+-=/\\_<>|°ºª"

CHARSET = (
    string.ascii_lowercase + string.ascii_uppercase + string.digits + _ACCENTED + _ACCENTED.upper() + _SIGNS
)
CLASSES = 1 + len(CHARSET)  # 122
