"""What torch and the device give: memory, recorded steps, operators, bits that repeat."""
