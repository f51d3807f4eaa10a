package main

import (
	"context"
	"encoding/json"

	"github.com/argoproj/gitops-engine/pkg/diff"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// As Argo CD's application controller names itself.
const argo = "argocd-controller"

// compare is Argo CD's decision about an object of Git: Synced, or OutOfSync with what would change.
func compare(ctx context.Context, one question) (answer, error) {
	cluster, err := connected()
	if err != nil {
		return answer{}, err
	}
	live, err := cluster.live(ctx, one.Object)
	if err != nil {
		return answer{}, err
	}
	result, err := diff.Diff(one.Object, live, cluster.options(one.Mode)...)
	if err != nil {
		return answer{}, err
	}
	// A dry run is of a later moment than what it is compared with: Argo CD's own picture of the cluster catches up, too.
	now, err := cluster.live(ctx, one.Object)
	if err != nil {
		return answer{}, err
	}
	switch {
	case !result.Modified:
		return answer{Status: "Synced"}, nil
	case now.GetResourceVersion() != live.GetResourceVersion():
		return compare(ctx, one)
	}
	return answer{Status: "OutOfSync", Message: string(result.PredictedLive)}, nil
}

func (c *cluster) live(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	found := &unstructured.Unstructured{}
	found.SetGroupVersionKind(object.GroupVersionKind())
	return found, c.client.Get(ctx, client.ObjectKeyFromObject(object), found)
}

// options: three-way is Argo CD's default, structured that of ServerSideApply=true, server that of ServerSideDiff=true.
func (c *cluster) options(mode string) []diff.Option {
	return []diff.Option{
		diff.WithManager(argo),
		diff.WithGVKParser(c.types),
		diff.WithStructuredMergeDiff(mode == "structured"),
		diff.WithServerSideDiff(mode == "server"),
		diff.WithServerSideDryRunner(c),
	}
}

// Run is the dry run of a server-side apply, as Argo CD asks kubectl for it.
func (c *cluster) Run(ctx context.Context, object *unstructured.Unstructured, manager string) (string, error) {
	predicted := object.DeepCopy()
	options := []client.PatchOption{client.DryRunAll, client.ForceOwnership, client.FieldOwner(manager)}
	//nolint:staticcheck // of an object whose type is not known when this is built
	if err := c.client.Patch(ctx, predicted, client.Apply, options...); err != nil {
		return "", err
	}
	said, err := json.Marshal(predicted)
	return string(said), err
}
