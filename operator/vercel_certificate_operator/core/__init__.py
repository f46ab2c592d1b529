"""The rules of the operator, as pure functions of what is known and of the time that is given to them."""
