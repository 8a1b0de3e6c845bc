"""MUSENET (Xu et al., WSDM 2023): scenarios, intention modules, objective."""
