package config

// secret is a setting that is never shown.
type secret struct {
	p     *Secret
	check func(string) error
}

func (s secret) set(in string) error {
	if err := s.check(in); err != nil {
		return err
	}
	*s.p = Secret(in)
	return nil
}
func (s secret) plain() any       { return s.p.String() }
func (s secret) target() any      { return s.p }
func (s secret) describe() string { return "secret" }
