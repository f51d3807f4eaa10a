package main

import (
	"context"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/engine"
	kstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// As kustomize-controller names itself.
var owner = ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}

// status is the verdict of kstatus or, if healthCheckExprs are given, that of Flux's own evaluator.
func status(ctx context.Context, one question) (answer, error) {
	result, err := verdict(ctx, one)
	if err != nil {
		return answer{}, err
	}
	return answer{Status: result.Status.String(), Message: result.Message}, nil
}

func verdict(ctx context.Context, one question) (*kstatus.Result, error) {
	if one.Expressions == nil {
		return kstatus.Compute(one.Object)
	}
	evaluator, err := cel.NewStatusEvaluator(one.Expressions)
	if err != nil {
		return nil, err
	}
	return evaluator.Evaluate(ctx, one.Object)
}

// apply is one reconciliation of a Kustomization: created, configured or unchanged.
func apply(ctx context.Context, one question) (answer, error) {
	manager, err := manager(one)
	if err != nil {
		return answer{}, err
	}
	manager.SetOwnerLabels([]*unstructured.Unstructured{one.Object}, "vision-models", "flux-system")
	entry, err := manager.Apply(ctx, one.Object, ssa.DefaultApplyOptions())
	if err != nil {
		return answer{}, err
	}
	return answer{Status: entry.Action.String()}, nil
}

// drift is what a reconciliation would do, without doing it.
func drift(ctx context.Context, one question) (answer, error) {
	manager, err := manager(one)
	if err != nil {
		return answer{}, err
	}
	manager.SetOwnerLabels([]*unstructured.Unstructured{one.Object}, "vision-models", "flux-system")
	entry, _, _, err := manager.Diff(ctx, one.Object, ssa.DefaultDiffOptions())
	if err != nil {
		return answer{}, err
	}
	return answer{Status: entry.Action.String()}, nil
}

// waited is the end of `wait: true`; its error is what the Kustomization would say.
func waited(_ context.Context, one question) (answer, error) {
	manager, err := manager(one)
	if err != nil {
		return answer{}, err
	}
	options := ssa.WaitOptions{
		Interval: 200 * time.Millisecond,
		Timeout:  time.Duration(one.Seconds * float64(time.Second)),
		FailFast: true,
	}
	if err := manager.Wait([]*unstructured.Unstructured{one.Object}, options); err != nil {
		return answer{Status: "NotReady", Message: err.Error()}, nil
	}
	return answer{Status: "Ready"}, nil
}

func manager(one question) (*ssa.ResourceManager, error) {
	cluster, err := connected()
	if err != nil {
		return nil, err
	}
	var readers []engine.StatusReader
	if one.Expressions != nil {
		gvk := one.Object.GroupVersionKind()
		check := kustomize.CustomHealthCheck{
			APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, HealthCheckExpressions: *one.Expressions,
		}
		reader, err := cel.NewStatusReader([]kustomize.CustomHealthCheck{check})
		if err != nil {
			return nil, err
		}
		readers = append(readers, reader(cluster.client.RESTMapper()))
	}
	poller := polling.NewStatusPoller(
		cluster.client, cluster.client.RESTMapper(), polling.Options{CustomStatusReaders: readers},
	)
	return ssa.NewResourceManager(cluster.client, poller, owner), nil
}
