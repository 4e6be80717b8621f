"""Reinforcement learning of routers in the simulator."""
