"""One request, followed through client, gateway, tritonserver and the steps of its model."""
