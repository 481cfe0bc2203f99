"""Who does the work: the runtime under pykka, and the actors that plan, call agents and write replies."""
