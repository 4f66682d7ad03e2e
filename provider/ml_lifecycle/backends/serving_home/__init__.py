"""The model servers of one machine: supervisord runs them, HAProxy shares the traffic out, a guard looks after both."""
