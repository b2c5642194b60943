"""From a detector, ours or a user's, to a pipeline that serves boxes of photographs."""
