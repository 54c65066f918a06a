"""What a suite is made of: settings, jobs, commands, records, and the texts that are made of them."""
