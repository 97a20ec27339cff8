"""A 2-D low-Mach reacting flow solver that runs on exact or learned chemistry."""
