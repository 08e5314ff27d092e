package config

// value is the place of one setting in a Config, with its type and its bounds.
type value interface {
	// set checks text and stores what it means. After an error nothing has
	// changed. The error completes "the value …" and does not repeat the value.
	set(text string) error
	// plain gives what is stored in the types that JSON has; secrets masked.
	plain() any
	// target gives the pointer to what is stored.
	target() any
	// describe names type and bounds for the reference.
	describe() string
}

// lister is a value that holds several.
type lister interface {
	value
	// setText takes one item, or a block of lines.
	setText(s string) error
	setList(items []string) error
}
