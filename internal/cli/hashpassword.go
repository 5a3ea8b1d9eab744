package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"
)

// longestPassword is what bcrypt takes into account, in bytes.
const longestPassword = 72

func (c *command) hashPassword() *cobra.Command {
	return &cobra.Command{
		Use:     "hash-password",
		Short:   "Hash a password for the web configuration file",
		GroupID: "look",
		Long: `Read a password and print its bcrypt hash, as basic_auth_users of a web
configuration file wants it. On a terminal the password is asked for and not
shown; otherwise it is the first line of standard input.`,
		Example: "  glassrunner hash-password",
		RunE: func(*cobra.Command, []string) error {
			password, err := c.readPassword()
			if err != nil {
				return err
			}
			switch {
			case password == "":
				return errors.New("hash-password: the password is empty")
			case len(password) > longestPassword:
				return fmt.Errorf("hash-password: the password is longer than %d bytes", longestPassword)
			}
			hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, string(hash))
			return nil
		},
	}
}

func (c *command) readPassword() (string, error) {
	if c.Terminal {
		fmt.Fprint(c.Err, "Password: ")
		text, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(c.Err)
		return string(text), err
	}
	line, err := bufio.NewReader(c.In).ReadString('\n')
	if line == "" && err != nil {
		return "", errors.New("hash-password: nothing on standard input")
	}
	return strings.TrimRight(line, "\r\n"), nil
}
