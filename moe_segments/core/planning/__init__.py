"""Planning: the order, the parts and the merging of many operations. Pure."""
