"""PostgreSQL: tables, sessions, migrations."""

# The tables of a domain's own module are known to ``Base.metadata`` once it is imported.
from service.database import attention_tables as attention_tables
from service.database import benchmark_tables as benchmark_tables
from service.database import circuit_tables as circuit_tables
from service.database import comparison_tables as comparison_tables
from service.database import concept_tables as concept_tables
from service.database import crosscoder_tables as crosscoder_tables
from service.database import graph_tables as graph_tables
from service.database import judge_tables as judge_tables
from service.database import key_tables as key_tables
from service.database import labelling_tables as labelling_tables
from service.database import layout_tables as layout_tables
from service.database import list_tables as list_tables
from service.database import session_tables as session_tables
from service.database import task_tables as task_tables
