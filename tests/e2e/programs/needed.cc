// A library that a node may lack.
int NeededAnswer();
int NeededAnswer() { return 42; }
