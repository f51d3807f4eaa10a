package main

import (
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kube-openapi/pkg/util/proto"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type cluster struct {
	client client.Client
	types  *managedfields.GvkParser
}

var known *cluster

// connected is the cluster that KUBECONFIG names; it is looked for when it is first asked about.
func connected() (*cluster, error) {
	if known != nil {
		return known, nil
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil,
	).ClientConfig()
	if err != nil {
		return nil, err
	}
	reach, err := client.New(config, client.Options{})
	if err != nil {
		return nil, err
	}
	types, err := published(config)
	if err != nil {
		return nil, err
	}
	known = &cluster{client: reach, types: types}
	return known, nil
}

// published are the types of all fields, as the API server describes them.
func published(config *rest.Config) (*managedfields.GvkParser, error) {
	reach, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	document, err := reach.OpenAPISchema()
	if err != nil {
		return nil, err
	}
	models, err := proto.NewOpenAPIData(document)
	if err != nil {
		return nil, err
	}
	return managedfields.NewGVKParser(models, false)
}
