//! Rules that people write into their definitions: what they refuse, and what
//! is refused of them.

use crate::cluster::Cluster;

const CAKES: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cakes.bakery.example.com}
spec:
  group: bakery.example.com
  scope: Namespaced
  names: {plural: cakes, singular: cake, kind: Cake}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        x-kubernetes-validations:
        - rule: "self.metadata.name.startsWith('cake-')"
          message: a cake is called cake
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - rule: "self.layers.size() <= self.limit"
              messageExpression: "'no more than %d layers'.format([self.limit])"
              fieldPath: .layers
            properties:
              limit: {type: integer}
              flavour:
                type: string
                maxLength: 20
                x-kubernetes-validations:
                - {rule: "self == oldSelf", message: flavour is fixed, reason: FieldValueForbidden}
              layers: {type: array, maxItems: 10, items: {type: string, maxLength: 20}}
          status:
            type: object
            x-kubernetes-validations:
            - {rule: "self.eaten >= 0", message: nobody uneats}
            properties:
              eaten: {type: integer}
"#;

const CAKE: &str = r#"
apiVersion: bakery.example.com/v1
kind: Cake
metadata: {name: cake-1}
spec: {limit: 2, flavour: lemon, layers: [a, b]}
"#;

#[test]
fn objects_that_break_rules_are_refused_in_words() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.apply(CAKES).prints("created");
    cluster.kubectl("wait --for=condition=Established crd/cakes.bakery.example.com").ok();
    cluster
        .apply(&CAKE.replace("[a, b]", "[a, b, c]"))
        .fails_with("spec.layers: Invalid value: no more than 2 layers");
    cluster
        .apply(&CAKE.replace("cake-1", "pie"))
        .fails_with("The Cake \"pie\" is invalid: <nil>: Invalid value: a cake is called cake");
    cluster.apply(CAKE).prints("cake.bakery.example.com/cake-1 created");
    let replace = |cake: &str| cluster.kubectl_with_input("replace -f -", cake);
    replace(&CAKE.replace("lemon", "plum")).fails_with("spec.flavour: Forbidden: flavour is fixed");
    replace(&CAKE.replace("[a, b]", "[a]")).prints("replaced");
    let eat = |count: i32| {
        let patch = format!(r#"{{"status":{{"eaten":{count}}}}}"#);
        let args =
            ["patch", "cake", "cake-1", "--subresource=status", "--type=merge", "-p", &patch];
        cluster.kubectl_args(&args)
    };
    eat(-1).fails_with("status: Invalid value: nobody uneats");
    eat(1).prints("patched");
}

#[test]
fn rules_that_are_wrong_or_too_costly_are_refused_with_the_definition() {
    let Some(cluster) = Cluster::start() else { return };
    let path = "spec.validation.openAPIV3Schema.properties[spec]";
    cluster
        .apply(&CAKES.replace("self.layers.size()", "self.layer.size()"))
        .fails_with("compilation failed: ERROR: <input>:1:5: undefined field 'layer'");
    cluster.apply(&CAKES.replace("self == oldSelf", "self > 1")).fails_with(&format!(
        "{path}.properties[flavour].x-kubernetes-validations[0].rule: Invalid value:"
    ));
    let costly = CAKES.replace("maxItems: 10, ", "").replace(
        "self.layers.size() <= self.limit",
        "self.layers.all(x, self.layers.all(y, x == y))",
    );
    cluster.apply(&costly).fails_with(&format!(
        "{path}.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x"
    ));
    cluster.kubectl("get crd cakes.bakery.example.com").fails_with("NotFound");
}
