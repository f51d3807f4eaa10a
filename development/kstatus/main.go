// Command kstatus reads one question as JSON on each line and answers on a line of its own what Flux would see:
// kstatus' verdict on the object or, if healthCheckExprs are given, that of Flux's own evaluator.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type question struct {
	Object      json.RawMessage                   `json:"object"`
	Expressions *kustomize.HealthCheckExpressions `json:"expressions"`
}

type answer struct {
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		if err := answers.Encode(said(lines.Bytes())); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}

func said(line []byte) answer {
	result, err := ask(line)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Status: result.Status.String(), Message: result.Message}
}

func ask(line []byte) (*status.Result, error) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{} // its own decoding: generations must be int64, not float64
	if err := object.UnmarshalJSON(asked.Object); err != nil {
		return nil, err
	}
	if asked.Expressions == nil {
		return status.Compute(object)
	}
	evaluator, err := cel.NewStatusEvaluator(asked.Expressions)
	if err != nil {
		return nil, err
	}
	return evaluator.Evaluate(context.Background(), object)
}
