package custom

// Greeting reads what config_exec printed and returns the line of the job log
// and the shell that it makes of it.
func Greeting(text []byte) (line, shell string, err error) {
	a, err := parseAnswer(text)
	return a.greeting(), a.layout().Shell, err
}

// ReadCode reads the exit code that a program left.
func ReadCode(path string) (int, error) { return readCode(path) }
