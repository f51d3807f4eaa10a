"""Images become bottlenecks here: decoded and resized as the exported model will do it, computed once, kept in storage."""
