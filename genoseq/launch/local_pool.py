from hydra._internal.core_plugins.basic_launcher import BasicLauncher
class LocalPool(BasicLauncher):
    def __init__(self, **kw): super().__init__(); print("pool", kw)
