package main

import (
	"fmt"
	"os"

	"github.com/heddlemesh/mesh/config"
)

func main() {
	kinds, err := config.RegisteredKinds()
	if err == nil {
		_, err = os.Stdout.WriteString(page(kinds))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fieldsdoc:", err)
		os.Exit(1)
	}
}
