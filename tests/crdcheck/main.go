// Crdcheck judges CustomResourceDefinitions, and objects of theirs, with the API server's own code, so that a test
// learns in a second, and without a cluster, what a cluster would say.
//
//	crdcheck CRD... [-old OBJECT] [-objects OBJECT...]
//
// All arguments are YAML files. With -old, every object is judged as an update of that one (transition rules).
// Prints a JSON report; exits 0 if all is valid, 1 if something is not, 2 if it could not be judged.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

type report struct {
	Definitions []definitionVerdict `json:"definitions"`
	Objects     []objectVerdict     `json:"objects"`
}

type problem struct {
	Field   string `json:"field"`
	Type    string `json:"type"`
	Message string `json:"message"`
}

type arguments struct {
	definitions []string
	objects     []string
	old         string
}

func parse(words []string) (arguments, error) {
	var parsed arguments
	mode := "definitions"
	for _, word := range words {
		switch {
		case word == "-objects":
			mode = "objects"
		case word == "-old":
			mode = "old"
		case mode == "objects":
			parsed.objects = append(parsed.objects, word)
		case mode == "old":
			parsed.old = word
			mode = "definitions"
		default:
			parsed.definitions = append(parsed.definitions, word)
		}
	}
	if len(parsed.definitions) == 0 || mode == "old" {
		return parsed, errors.New("usage: crdcheck CRD... [-old OBJECT] [-objects OBJECT...]")
	}
	return parsed, nil
}

func run(words []string) (bool, error) {
	arguments, err := parse(words)
	if err != nil {
		return false, err
	}
	ctx := context.Background()
	result := report{Definitions: []definitionVerdict{}, Objects: []objectVerdict{}}
	valid := true
	kinds := map[string]*kind{}
	for _, file := range arguments.definitions {
		verdict, found, err := judgeDefinition(ctx, file)
		if err != nil {
			return false, fmt.Errorf("%s: %w", file, err)
		}
		result.Definitions = append(result.Definitions, verdict)
		valid = valid && verdict.Valid
		if found != nil {
			kinds[found.name.Kind] = found
		}
	}
	for _, file := range arguments.objects {
		verdict, err := judgeObject(ctx, kinds, file, arguments.old)
		if err != nil {
			return false, fmt.Errorf("%s: %w", file, err)
		}
		result.Objects = append(result.Objects, verdict)
		valid = valid && verdict.Valid
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	return valid, encoder.Encode(result)
}

func main() {
	valid, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !valid {
		os.Exit(1)
	}
}
