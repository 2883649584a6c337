# An instance to register: consul services register web.hcl
service {
  name    = "web"
  address = "10.0.0.1"
  port    = 8080
  meta = {
    protocol = "http"
    version  = "v1"
  }
}
