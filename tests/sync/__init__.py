"""Two homes that change at random and sync through a bare repository: do they converge?"""
