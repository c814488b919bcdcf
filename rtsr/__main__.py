from rtsr.cli import main

main()
