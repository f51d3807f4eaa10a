// Command gitops reads one question as JSON on each line and answers on a line of its own what Git's controllers would
// say or do: kstatus and Flux's own evaluator of healthCheckExprs, Flux's own applier, and Argo CD's own diff.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/fluxcd/pkg/apis/kustomize"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type question struct {
	Ask         string                            `json:"ask"`
	Object      *unstructured.Unstructured        `json:"object"` // its own decoding: generations must be int64
	Expressions *kustomize.HealthCheckExpressions `json:"expressions"`
	Seconds     float64                           `json:"seconds"` // how long to wait at most
	Mode        string                            `json:"mode"`    // which of Argo CD's ways to compare
}

type answer struct {
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

var asked = map[string]func(context.Context, question) (answer, error){
	"status": status,
	"apply":  apply,
	"drift":  drift,
	"wait":   waited,
	"diff":   compare,
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
	var one question
	if err := json.Unmarshal(line, &one); err != nil {
		return answer{Error: err.Error()}
	}
	ask, known := asked[one.Ask]
	if !known {
		return answer{Error: fmt.Sprintf("nobody can be asked for %q", one.Ask)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	found, err := ask(ctx, one)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return found
}
