"""The operator: watches ClassifierExpansion resources and brings cluster and storage to what they say."""
