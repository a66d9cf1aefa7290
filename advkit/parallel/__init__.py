"""Independent items spread over processes of one machine or over a Ray cluster; knows nothing of networks."""
