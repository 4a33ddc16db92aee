"""What code for ARM is made of: instructions counted in the disassembly, and as executed under qemu."""
