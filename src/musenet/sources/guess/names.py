"""What names of columns, files and kinds of event say, in the spellings and some of the languages that logs use."""

import re

USER = (
    r"user|visitor|customer|client|member|household|person|account|viewer|shopper|guest|buyer|reader|listener"
    r"|(^|_)(uid|cust)(_|$)|nutzer|kund|besucher|usuari|utilisateur|utente|用户|客户|ユーザー|пользовател"
)
ITEM = (
    r"item|product|article|sku|hotel|(^|_)ads?(_|$)|adgroup|movie|film|book|track|song|listing|offer|goods|video|news"
    r"|content|recipe|restaurant|poi|game|(^|_)app(_|$)|course|(^|_)job|(^|_)doc|photo|property|asset|asin|isbn"
    r"|(^|_)iid(_|$)|artikel|produ[kzi]t|articulo|商品|物品|アイテム|товар"
)
TIME = r"time|date|stamp|(^|_)(at|on|ts|ms|when|day|dt)(_|$)|zeit|datum|fecha|heure|时间|日期"
LABEL = (
    r"clic|clk|klick|label|taken|bought|purchas|conver|order|target|booked|respon|positive|(^|_)(y|buy|hit|cart|atc)$"
    r"|kauf|compra|achat|点击|购买"
)
REQUEST = (
    r"request|search|page|impression_?id|slate|list_?id|query|auction|session|basket|serp|(^|_)(req|rid|sid)(_|$)"
    r"|suche|sitzung|busqueda|recherche|搜索"
)
KIND = r"kind|action|verb|event|type|behavio"
EXPOSURE = r"^(view|impression|impr|show|shown|expos\w*|display\w*|pv|served?)$"
SHOWN = r"^(impression|impr|shown?|expos\w*|display\w*|served?)$"
"""Of events, kinds that nobody did; to view a page is a deed."""
DONE = r"click|open|view|buy|bought|purchas|order|book|cart|fav|like|play|watch|add|transaction|^pv$|impression|show"
"""Kinds of event, answers and exposures alike."""
NEGATED = r"(^|_)(no|non|not|un|dis|skip|ignor|reject)(?=clic|clk|like|buy|_|$)|negative|skipped|ignored"
AFTERWARDS = (
    r"dwell|duration|watch|play_?time|time_?spent|read_?time|revenue|paid|amount|quantit|(^|_)qty|conver|purchas"
    r"|(^|_)buy|bought|order|rating|feedback|(^|_)like|dislike|(^|_)hate|share[ds]?(_|$)|comment|follow|click|clk"
    r"|booked|outcome|result|after|response|long_view|finish|complet|add_to_|(^|_)(cart|fav|save)d?(_|$)|transaction"
)
"""Of what is only known after the answer; so are columns that tell the label all alone."""
POSITION = r"rank|position|slot|(^|_)place(_|$)|(^|_)pos(_|$)"
CODE = (
    r"^(code|zip|postal|plz|no|number|type|class|group|level|band|category|cat|cate|brand|city|region|country|segment"
    r"|author|artist|seller|shop|store|merchant|supplier|manufacturer|publisher|advertiser|campaign|channel|department"
    r"|occupation|tag|color|colour|language|state|tab)$|id$"
)
CLOCK = r"^(hour|weekday|dow|day_?of_?week|week|month|quarter|season|day|hour_?min)$|(^|_)(hour|weekday|month|week)$"
RATING = r"rating|score|stars|grade|rate$"
NEUTRAL = r"^(id|key|code|no|number|index)$"
ID = r"(^|_)(id|no|key|code|number)$|id$"
NAMED_AS_ID = r"(^|_)(id|no|key|code|number|idx|hash|uuid|guid|name)(_|$)|id$"
"""Of users and items, in any of its words: `user_id:token`, `user_hash`, but not `user_group`."""
ROW_NUMBER = (
    r"^(unnamed[_:]? ?\d+|index|_?index_level_\d+_?|row_?(id|no|num|number|index)?|(line|record)_?(no|number))$"
)
_WORDS_OF_YAML = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


def snake(name: str) -> str:
    """`userId` and `User ID` as `user_id`."""
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())).lower()


def says(pattern: str, name: str) -> bool:
    """Whether a name, in whatever style, holds one of these words."""
    return bool(re.search(pattern, snake(name)))


def is_code(name: str) -> bool:
    """Whether numbers of this name stand for something rather than count or weigh it: its last word says so."""
    words = snake(name).strip("_").split("_")
    last = words[-1]
    if (words[0] in ("n", "num", "number", "count") and len(words) > 1) or last in ("paid", "bid", "grid"):
        return False
    return says(CODE, last) or (says(f"{USER}|{ITEM}", last) and not last.endswith("s"))


def yaml_name(name: str) -> str:
    """A name as a YAML scalar that can stand inside braces."""
    if re.fullmatch(r"[A-Za-z_][\w-]*", name) and name.lower() not in _WORDS_OF_YAML:
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
