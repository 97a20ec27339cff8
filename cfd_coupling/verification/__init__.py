"""The scoreboard of the flow solver: small claims against exact solutions, conservation laws and faults put in."""
