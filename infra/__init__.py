"""Everything that can be swapped, and the engine that runs it; nothing here knows a flow or Prefect."""
